import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

from nisf import compiled as module
from nisf.compiled import can_compile, compiled


def double(x):
    return 2 * x


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = []
    assert not can_compile()
    assert compiled(double, said.append) is double
    assert len(said) == 1
    assert "no C++ compiler" in said[0]


def test_compiler_at_hand(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert can_compile()


def test_compiling_that_works(monkeypatch):
    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda f: lambda x: f(x) + 100)
    said = []
    fast = compiled(double, said.append)
    assert [fast(1), fast(2)] == [102, 104]
    assert said == []


def test_compiling_that_fails(monkeypatch):
    calls = []

    def broken(function):
        def call(x):
            calls.append(x)
            raise TorchDynamoException("no")

        return call

    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(torch, "compile", broken)
    said = []
    fast = compiled(double, said.append)
    assert [fast(1), fast(2), fast(3)] == [2, 4, 6]
    assert calls == [1]  # tried once, then never again
    assert len(said) == 1
    assert "compiling failed (TorchDynamoException)" in said[0]
    assert issubclass(BackendCompilerFailed, TorchDynamoException)


def test_errors_of_the_function_itself_come_through(monkeypatch):
    def wrong(x):
        raise ValueError("three")

    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda f: f)
    with pytest.raises(ValueError, match="three"):
        compiled(wrong, print)(1)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_really_compiled():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    said = []
    fast = compiled(network, said.append)
    x = torch.randn(5, 3)
    torch.testing.assert_close(fast(x), network(x))
    assert said == []
