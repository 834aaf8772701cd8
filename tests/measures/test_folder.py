from concurrent.futures import ThreadPoolExecutor

from measured_folder import add, read
from nisf.measures import folder
from nisf.measures.case import CaseMeasures
from nisf.measures.folder import Tables
from nisf.measures.table import case_path, write_case
from nisf.outputs import claimed


def test_a_case_measured_again_replaces_its_row(tmp_path):
    for value in (1.0, 2.0):
        with Tables(tmp_path) as tables:
            add(tables, CaseMeasures("a", {"x_ml": value}))
    assert [row["x_ml"] for row in read(tmp_path / "measures.csv")] == ["2"]


def test_many_writers_lose_no_row(tmp_path, monkeypatch):
    """Each makes the tables after each of its cases, while others write theirs."""
    monkeypatch.setattr(folder, "EVERY_S", 0.0)

    def write(writer):
        with Tables(tmp_path) as tables:
            for number in range(5):
                add(tables, CaseMeasures(f"w{writer}n{number}", {"x_ml": float(number)}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(read(tmp_path / "measures.csv")) == 20


def test_a_case_added_while_the_table_is_written_is_in_it(tmp_path, monkeypatch):
    """The order of events that would lose a row if the folder were looked at once."""
    late = [CaseMeasures("b", {"x_ml": 2.0})]
    write = folder.write_tables

    def slow(place, cases, **options):
        if late:
            write_case(place, late.pop())
        return write(place, cases, **options)

    monkeypatch.setattr(folder, "write_tables", slow)
    with Tables(tmp_path) as tables:
        add(tables, CaseMeasures("a", {"x_ml": 1.0}))
    assert [row["case"] for row in read(tmp_path / "measures.csv")] == ["a", "b"]


def test_tables_are_not_made_for_each_case(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(folder, "write_tables", lambda *_, **__: made.append(1) or [])
    with Tables(tmp_path) as tables:
        for number in range(10):
            add(tables, CaseMeasures(f"n{number}", {"x_ml": 1.0}))
    assert len(made) == 2  # the first, and all at the end


def test_nothing_is_written_where_nothing_was_added(tmp_path):
    with Tables(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_costs_its_own_row(tmp_path):
    case_path(tmp_path, "a").write_text("{")
    tables = Tables(tmp_path)
    add(tables, CaseMeasures("b", {"x_ml": 1.0}))
    add(tables, CaseMeasures("c", {"x_ml": 2.0}))
    tables.__exit__()
    (sentence,) = tables.damaged
    assert "a.measures.json" in sentence
    assert [row["case"] for row in read(tmp_path / "measures.csv")] == ["b", "c"]


def test_tables_of_the_same_cases_are_not_made_again(tmp_path, monkeypatch):
    """So that many processes that end at once do not wait for each other."""
    with Tables(tmp_path) as tables:
        add(tables, CaseMeasures("a", {"x_ml": 1.0}))
    made = []
    write = folder.write_tables
    monkeypatch.setattr(folder, "write_tables", lambda *a, **o: made.append(1) or write(*a, **o))
    with Tables(tmp_path) as tables:
        tables.note()
    assert not made
    with Tables(tmp_path) as tables:
        add(tables, CaseMeasures("b", {"x_ml": 2.0}))
    assert made
    (tmp_path / "curves.csv").unlink()
    made.clear()
    with Tables(tmp_path) as tables:
        tables.note()
    assert made
    assert (tmp_path / "curves.csv").is_file()


def test_nobody_waits_for_tables_between_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "EVERY_S", 0.0)
    with Tables(tmp_path) as tables, claimed(tmp_path):
        # This process may enter its own lock again; another's is played by the lock's module.
        from nisf.outputs import lock

        monkeypatch.setattr(lock, "_held", {})
        add(tables, CaseMeasures("a", {"x_ml": 1.0}))
        assert not (tmp_path / "measures.csv").exists()
        monkeypatch.undo()
    assert len(read(tmp_path / "measures.csv")) == 1
