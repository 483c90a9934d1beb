"""Text that others wrote (names, paths, messages), safe to show: one line, no controls, no credentials."""

from __future__ import annotations

import re

_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_PARAMETER = re.compile(
    r"([?&;][^=&;\s]*(?:token|key|secret|signature|sig|password|credential)[^=&;\s]*=)[^&;\s\"']+",
    re.IGNORECASE,
)


def visible(text: str) -> str:
    """The text with everything that is not printable written as a backslash escape.

    Covers line breaks, terminal control codes, bidirectional overrides and lone surrogates (file names that
    are not UTF-8), so the result is one line and encodes to UTF-8. In a text that needed escapes, a backslash
    that was there before is doubled.

    Example:
        >>> visible("two\\nlines")
        'two\\\\nlines'
        >>> visible("plain text")
        'plain text'
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() and character != "\\"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def redact(text: str) -> str:
    """The text without user names and passwords in URLs and without signatures and tokens in their queries.

    Example:
        >>> redact("s3://id:pass@store/models?X-Amz-Signature=abc&part=1")
        's3://***@store/models?X-Amz-Signature=***&part=1'
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub("***@", text))
