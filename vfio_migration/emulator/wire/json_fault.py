"""What is wrong with a token, in QEMU's words and without its place."""


class JsonFault(Exception):  # noqa: N818 - it never leaves the reader, whose word for what a client gets is JsonError
    """A token that cannot stand where it stands, or says nothing; the words are those after `JSON parse error, `."""
