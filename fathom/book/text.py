"""`T`: a text in the two languages of the book."""

from __future__ import annotations

from typing import Any, NamedTuple

LANGUAGES = ("en", "zh")


class T(NamedTuple):
    """English and Chinese, side by side.

    >>> T("bias", "偏置").zh
    '偏置'
    """

    en: str
    zh: str

    def filled(self, **values: Any) -> T:
        """Both texts with `{name}` replaced by values, as `str.format` does.

        >>> T("{n:.1f} units", "{n:.1f} 个单元").filled(n=2).en
        '2.0 units'
        """
        return T(self.en.format(**values), self.zh.format(**values))
