"""One page to look at: responses or a model as a single HTML file that opens offline.

`write_report` (`writing`) is the door. `choosing` finds what is shown; `responses` and `accuracy`
say what the two kinds of page show; `brain` packs what turns under the mouse, `pictures` draws
what lies still, `photographs` finds the images by their names, `regions` takes means, `rendering`
fills the templates in ``page/``.
"""

from berg.reports.writing import check_can_write, write_report

__all__ = ["check_can_write", "write_report"]
