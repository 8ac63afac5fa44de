"""What hypothesis draws: valid values of this library, and strings that nearly are."""

from __future__ import annotations

from hypothesis import strategies as st

from aioblobcache import Descriptor, Digest

HEX = "0123456789abcdef"
LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}
PREFIXES = ("", "tarsum+", "tarsum.v1+", "tarsum.dev+")

# Everything that has ever split a key, a path or a header.
HOSTILE = ["\x00", "\n", "\r\n", "\u2028", "..", "../", "/", "::", " ", "٣", "\uff11", "\ud800", "é", "A", "\\", "%00"]


@st.composite
def digests(draw: st.DrawFn) -> Digest:
    algorithm = draw(st.sampled_from(sorted(LENGTHS)))
    encoded = draw(st.text(st.sampled_from(HEX), min_size=LENGTHS[algorithm], max_size=LENGTHS[algorithm]))
    return Digest(f"{draw(st.sampled_from(PREFIXES))}{algorithm}:{encoded}")


media_types = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80)
sizes = st.integers(min_value=0, max_value=2**63 - 1)
descriptors = st.builds(Descriptor, digests(), sizes, media_types)

# Of letters given one by one: a class of a regular expression takes seconds to prepare in a fresh checkout.
_words = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789"), min_size=1, max_size=8)
_separators = st.sampled_from([".", "_", "__", "-", "--", "---"])
_components = st.builds(
    lambda first, rest: first + "".join(separator + word for separator, word in rest),
    _words,
    st.lists(st.tuples(_separators, _words), max_size=2),
)
names = st.lists(_components, min_size=1, max_size=4).map("/".join)


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[str]) -> str:
    """A valid string with something hostile put in, or a piece cut out."""
    text = str(draw(valid))
    at = draw(st.integers(0, len(text)))
    if draw(st.booleans()):
        return text[:at] + draw(st.sampled_from(HOSTILE)) + text[at:]
    return text[:at] + text[at + 1 + draw(st.integers(0, 3)) :]
