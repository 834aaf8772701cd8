import pytest

from nisf.errors import NisfError, exit_status


def test_success_is_handed_on(capsys):
    assert exit_status("x", lambda: 0) == 0
    assert exit_status("x", lambda: 1) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (NisfError("a.nii: is empty; copy it again"), 2, "x: a.nii: is empty; copy it again\n"),
        (KeyboardInterrupt(), 130, "x: interrupted; what was finished is kept\n"),
    ],
)
def test_one_sentence(error, status, said, capsys):
    def run():
        raise error

    assert exit_status("x", run) == status
    assert capsys.readouterr().err == said


def test_what_is_our_fault_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_status("x", lambda: 1 // 0)
