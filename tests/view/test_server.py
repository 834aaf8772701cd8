import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chromium import chromium_page, needs_chromium
from nisf.io.subject_file import write_subject
from nisf.view.library import Entry, Library
from nisf.view.viewed import Viewed
from nisf.view.worker import Step

pytest.importorskip("starlette", reason="needs nisf[view]: starlette and uvicorn")
from nisf.view.server import admission_for, serve_in_thread


def asked(served, path, body=None, **headers):
    """Status, headers and body of a request with the right token, unless headers say otherwise."""
    host, token = served
    connection = http.client.HTTPConnection(host, timeout=30)
    given = {"X-Nisf-Token": token, **{name.replace("_", "-"): value for name, value in headers.items()}}
    given = {name: value for name, value in given.items() if value is not None}
    connection.request("GET" if body is None else "POST", path, body, given)
    response = connection.getresponse()
    answer = response.status, response.headers, response.read()
    connection.close()
    return answer


def packets(data):
    while data:
        header, payload = struct.unpack("<II", data[:8])
        yield json.loads(data[8 : 8 + header]), data[8 + header : 8 + header + payload]
        data = data[8 + header + payload :]


PLANE = {
    "case": 0,
    "view": "a",
    "centre": [0, 0, 0],
    "right": [1, 0, 0],
    "down": [0, 1, 0],
    "spacing": 1,
    "width": 40,
    "height": 30,
    "time": 0,
}


def test_the_token_in_the_address_becomes_a_cookie(served):
    _, token = served
    status, headers, _ = asked(served, f"/?token={token}", X_Nisf_Token=None)
    assert status == 303
    assert headers["location"] == "/"
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    status, headers, body = asked(served, "/", X_Nisf_Token=None, Cookie=cookie.split(";")[0])
    assert status == 200
    assert b"<html" in body
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("other", ['layout={"a":1}', "user@example.org=1", "name=a b", "alone"])
def test_cookies_of_other_programs_do_not_matter(served, other):
    host, token = served
    own = f"nisf-view-{host.rpartition(':')[2]}={token}"
    assert asked(served, "/", X_Nisf_Token=None, Cookie=f"{other}; {own}")[0] == 200
    assert asked(served, "/", X_Nisf_Token=None, Cookie=other)[0] == 403


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/api/cases"])
@pytest.mark.parametrize("token", [None, "", "wrong", "tokén"])
def test_nobody_gets_in_without_the_token(served, path, token):
    encoded = None if token is None else token.encode().decode("latin-1")
    status, _, body = asked(served, path, "{}" if path.startswith("/api") else None, X_Nisf_Token=encoded)
    assert status == 403
    assert "error" in json.loads(body)


def test_a_wrong_token_in_the_address_is_refused(served):
    assert asked(served, "/?token=guess", X_Nisf_Token=None)[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1.evil.example"])
def test_other_names_of_this_machine_are_refused(served, host):
    assert asked(served, "/", Host=host)[0] == 421


@pytest.mark.parametrize(
    ("host", "port", "known", "unknown"),
    [
        ("127.0.0.1", 8080, ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"], ["10.0.0.5:8080"]),
        ("10.0.0.5", 8080, ["10.0.0.5:8080"], ["127.0.0.1:8080", "10.0.0.5", "10.0.0.5:80"]),
        (
            "0.0.0.0",
            8080,
            ["10.0.0.5:8080", "localhost:8080", "[fe80::1]:8080", f"{socket.gethostname().lower()}:8080"],
            ["evil.example:8080", "10.0.0.5:8081", "fe80::1:8080", "[10.0.0.5]:8080", ":8080", ""],
        ),
        ("127.0.0.1", 80, ["127.0.0.1", "127.0.0.1:80"], ["127.0.0.1:8080"]),
    ],
)
def test_names_of_a_server(host, port, known, unknown):
    """Numeric addresses are never another site's, whose name would be told."""
    admission = admission_for(host, port)
    assert admission.cookie == f"nisf-view-{port}"
    for name in known:
        assert admission.known_host({"host": name}), name
        assert admission.own_origin({"host": name, "origin": f"http://{name}"})
        assert not admission.own_origin({"host": name, "origin": "http://10.0.0.6:8080"})
    for name in unknown:
        assert not admission.known_host({"host": name}), name


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ],
)
def test_pages_of_other_sites_are_refused(served, headers):
    assert asked(served, "/api/cases", "{}", **headers)[0] == 403


def test_a_link_on_another_page_leads_in_if_it_has_the_token(served):
    there = {"Sec_Fetch_Site": "cross-site", "X_Nisf_Token": None}
    link = {**there, "Sec_Fetch_Mode": "navigate"}
    status, headers, body = asked(served, f"/?token={served[1]}", **link)
    assert status == 200
    assert "SameSite=strict" in headers["set-cookie"]
    assert b'content="0; url=/"' in body
    for address, more in (("/?token=guess", link), ("/", link), (f"/?token={served[1]}", there)):
        assert asked(served, address, **more)[0] == 403


@needs_chromium
@pytest.mark.parametrize("site", ["localhost", "127.0.0.1"])
def test_a_click_on_a_notebooks_link_opens_the_viewer(served, tmp_path, site):
    host, token = served
    link = f'<a href="http://{host}/?token={token}" target="_blank" rel="noreferrer">Open</a>'
    (tmp_path / "notebook.html").write_text(link)
    other = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        with chromium_page(600, 400) as page:
            page.goto(f"http://{site}:{other.server_port}/notebook.html")
            with page.context.expect_page() as opened:
                page.click("a")
            opened.value.wait_for_function("() => window.nisfPage?.info")
            assert opened.value.url == f"http://{host}/"
    finally:
        other.shutdown()
        other.server_close()


@pytest.mark.skipif(os.name == "nt", reason="sends a signal as on Unix")
def test_ctrl_c_is_how_it_ends(toy_fitted, tmp_path):
    write_subject(tmp_path / "toy.nisf", toy_fitted)
    command = [sys.executable, "-m", "nisf", "view", str(tmp_path / "toy.nisf"), "--no-browser"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        while "Ctrl-C ends it" not in process.stdout.readline():
            pass
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert (said, error) == ("nisf view: ended\n", "")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_the_own_page_may_ask(served):
    status, _, body = asked(served, "/api/cases", "{}", Origin=f"http://{served[0]}")
    assert status == 200
    assert next(packets(body))[0] == {"cases": ["toy99"]}


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py",
        "/page/..%2fserver.py",
        "/page/%2e%2e/server.py",
        "/page//etc/passwd",
        "/etc/passwd",
        "/page/server.py",
        "/page/",
        "/openapi.json",
    ],
)
def test_no_file_but_the_pages_own_is_reachable(served, path):
    status, _, body = asked(served, path)
    assert status in (404, 405)
    assert b"import" not in body


def test_a_plane_is_answered_coarse_then_sharp(served):
    status, _, body = asked(served, "/api/open", '{"case": 0}')
    assert status == 200
    status, _, body = asked(served, "/api/plane", json.dumps(PLANE))
    found = list(packets(body))
    assert [header["level"] for header, _ in found[:2]] == ["coarse", "sharp"]
    assert found[-1][0]["final"]
    assert len(found[-1][1]) == 40 * 30 * (2 + 1 + 3)


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("plane", "[1", 400),
        ("plane", "[]", 400),
        ("plane", json.dumps({**PLANE, "width": 10**9}), 400),
        ("plane", json.dumps({**PLANE, "case": 7}), 400),
        ("cases", " " * 100_000, 413),
        ("files", "{}", 404),
    ],
)
def test_bad_questions_get_one_sentence(served, verb, body, status):
    found, _, answer = asked(served, f"/api/{verb}", body)
    assert found == status
    assert json.loads(answer)["error"]


def test_errors_of_the_work_are_sentences_too(served):
    body = json.dumps({"case": 0, "name": "4ch", "time": 0})
    ((header, _),) = packets(asked(served, "/api/view", body)[2])
    assert header == {"error": "view 4ch: the anatomy has no such view"}


def test_the_server_ends_although_somebody_is_being_answered(capfd):
    def endless():
        while True:
            yield Step.WAITS

    before = set(threading.enumerate())
    host, token, end = serve_in_thread(Library([Entry("endless", endless)]))
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("POST", "/api/open", '{"case": 0}', {"X-Nisf-Token": token})
    response = connection.getresponse()
    assert response.status == 200
    end()
    assert set(threading.enumerate()) == before
    assert [header for header, _ in packets(response.read())] == [{"dropped": True}]
    connection.close()
    assert capfd.readouterr().err == ""


def test_two_tabs_do_not_drop_each_others_requests(serving, toy_seen):
    """One opens a case while another is being opened in the other tab; in the same tab it takes its place."""
    for pages, dropped in ((("a", "b"), False), (("a", "a"), True)):
        begun, ended = threading.Event(), threading.Event()

        def slowly(begun=begun, ended=ended):
            begun.set()
            while not ended.is_set():
                yield Step.WAITS
            yield Viewed(*toy_seen)

        def quickly(ended=ended):
            ended.set()
            yield Viewed(*toy_seen)

        with serving(Library([Entry("slow", slowly), Entry("quick", quickly)])) as served:
            bodies = [json.dumps({"case": case, "page": page}) for case, page in enumerate(pages)]
            with ThreadPoolExecutor() as pool:
                first = pool.submit(asked, served, "/api/open", bodies[0])
                assert begun.wait(20)
                second = asked(served, "/api/open", bodies[1])
                answers = [list(packets(answer[2]))[-1][0] for answer in (first.result(), second)]
        assert ("dropped" in answers[0]) == dropped
        assert answers[1]["name"] == "toy99"
