"""The examples in docstrings of methods run.

Those of classes and functions are run by ``pytest --doctest-modules``, which passes over methods of classes
that say they come from the package and not from the file that they stand in.
"""

import doctest
import importlib
import inspect

import pytest

PACKAGES = ("", ".nn", ".calibration", ".metrics", ".model_selection", ".datasets", ".plotting", ".report")


def examples():
    """Of each public method with an example, its name and the parsed example."""
    parser = doctest.DocTestParser()
    for package in PACKAGES:
        module = importlib.import_module(f"skcsflow{package}")
        for class_name in module.__all__:
            cls = getattr(module, class_name)
            for name, method in inspect.getmembers(cls, callable) if isinstance(cls, type) else ():
                docstring = inspect.getdoc(method) or ""
                is_ours = str(getattr(method, "__module__", "")).startswith("skcsflow")
                if is_ours and not name.startswith("_") and ">>>" in docstring:
                    label = f"{module.__name__}.{class_name}.{name}"
                    yield pytest.param(parser.get_doctest(docstring, {}, label, None, None), id=label)


@pytest.mark.slow
@pytest.mark.parametrize("example", list(examples()))
def test_example_of_method_runs(example):
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
