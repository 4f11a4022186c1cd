"""One real report for the whole session, and pages without pixels for what is about words."""

import fake_run
import pytest

from radlearn.report import page, pictures


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return fake_run.write(tmp_path_factory.mktemp("runs") / "nova_phantom")


@pytest.fixture(scope="session")
def rival(tmp_path_factory):
    """A better run from another seed that saw more."""
    folder = tmp_path_factory.mktemp("runs") / "infonce_phantom"
    return fake_run.write(folder, name="infonce_phantom", seed=1, shift=0.25, samples_seen=48_000)


@pytest.fixture(scope="session")
def written(run, tmp_path_factory):
    """The folder of a report, every picture drawn: small, and without the fonts a pdf takes long to embed."""
    real = pictures.base.render

    def render(figure, kind, _):
        return real(figure, kind, 60) if kind == "png" else b"%PDF"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures.base, "render", render)
        return page.report([run], tmp_path_factory.mktemp("report") / "report").parent


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are drawn but not turned into pixels, which takes nine tenths of a report's time."""
    monkeypatch.setattr(pictures.base, "render", lambda *_: b"pixels")
