import pytest

from radlearn import registry
from radlearn.errors import ConfigurationError


def test_a_file_name_is_the_name_of_its_class():
    assert registry.find("objectives", "nova").__name__ == "NOVA"
    assert registry.find("encoders", "small_cnn").__name__ == "SmallCNN"


def test_names_leave_out_contracts_and_helpers():
    for kind in registry.BASES:
        assert all(not name.startswith("_") and name != "base" for name in registry.names(kind))


def test_a_mistyped_name_lists_what_there_is_and_names_the_nearest():
    with pytest.raises(ConfigurationError, match=r"no 'nva' in objectives: there is .*did you mean 'nova'"):
        registry.find("objectives", "nva")
    with pytest.raises(ConfigurationError, match="did you mean 'encoders'"):
        registry.names("encoder")


def test_a_dotted_path_brings_a_class_from_outside():
    found = registry.find("objectives", "radlearn.objectives.nova.NOVA")
    assert found.__name__ == "NOVA"
    with pytest.raises(ConfigurationError, match="is no Objective"):
        registry.find("objectives", "pathlib.Path")
    with pytest.raises(ConfigurationError, match="cannot import"):
        registry.find("objectives", "no_such_lab.Method")


def test_signature_is_read_from_source_with_what_the_bases_take():
    arguments = registry.signature("objectives", "nova")
    assert arguments["lambda_sigreg"] == 0.02
    assert arguments["embed_dim"] == 64  # of its base class, through **shared
    assert registry.signature("encoders", "no_such") is None


def test_signature_needs_no_import_of_torch():
    import subprocess
    import sys

    code = (
        "import sys; from radlearn import registry;"
        "registry.signature('objectives', 'nova'); registry.names('tasks'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_plugin_folder_is_searched(tmp_path, monkeypatch):
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "mine.py").write_text(
        "from radlearn.objectives.base import Objective\n\n\nclass Mine(Objective):\n    pass\n"
    )
    monkeypatch.setenv("RADLEARN_PLUGINS", str(tmp_path))
    assert "mine" in registry.names("objectives")
    assert registry.find("objectives", "mine").__name__ == "Mine"


def test_a_file_with_two_plugins_is_refused(tmp_path, monkeypatch):
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "two.py").write_text(
        "from radlearn.objectives.base import Objective\n\n\n"
        "class A(Objective):\n    pass\n\n\nclass B(Objective):\n    pass\n"
    )
    monkeypatch.setenv("RADLEARN_PLUGINS", str(tmp_path))
    with pytest.raises(ConfigurationError, match="must define one Objective: it defines 2"):
        registry.find("objectives", "two")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, n) for kind in registry.BASES for n in registry.names(kind) if kind != "figures"],
)
def test_a_signature_read_from_the_source_is_that_of_the_class(kind, name):
    """Whatever file its base class stands in: otherwise none of its settings could be given."""
    import inspect

    parameters = inspect.signature(registry.find(kind, name).__init__).parameters.values()
    wanted = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(registry.signature(kind, name)) >= wanted
