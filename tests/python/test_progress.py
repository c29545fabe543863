import io
import sys

from foveal import _progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_on_a_terminal_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)  # not installed
    for wanted, stream, shows in [(True, Terminal(), True), (False, Terminal(), False),
                                  (True, io.StringIO(), False)]:
        monkeypatch.setattr(sys, "stderr", stream)
        bar = _progress.bar(4, wanted)
        bar.update(1)
        bar.update(3)
        bar.close()
        assert ("4/4" in stream.getvalue() and stream.getvalue().endswith("\n")) == shows
