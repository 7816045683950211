"""Represent a reading that a host's kernel lacks as a distinct value: it is neither 0 nor a failure."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar, cast

from mptcp_lab.errors import Unsupported

T = TypeVar("T")


class Absent:
    """A placeholder for a counter, sysctl, field or answer that a kernel does not have.

    It can be printed and stored. Comparing it, calculating with it, or testing its truth raises
    `Unsupported`, which names the reading and the kernel, so that no check passes or fails on a value that
    does not exist.
    """

    def __init__(self, reading: str, host: str = "", kernel: str = "") -> None:
        self.reading, self.host, self.kernel = reading, host, kernel

    def __repr__(self) -> str:
        return f"<absent: {self.reading}>"

    def as_error(self) -> Unsupported:
        """Return the error that every use of the value raises."""
        kernel = f"Linux {self.kernel}" if self.kernel else "this kernel"
        return Unsupported(self.reading, f"{kernel} does not have it", self.host)

    def _refuse(self, *_: object) -> NoReturn:
        raise self.as_error()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python and pytest probe objects for these
            raise AttributeError(name)
        self._refuse()

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = _refuse
    __hash__ = __abs__ = __neg__ = _refuse
    __getitem__ = __contains__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __or__ = __ror__ = __and__ = __rand__ = _refuse


class Readings(dict[str, Any]):
    """Readings by name: indexing a name that the kernel lacks gives an `Absent`, ``get`` gives its default.

    ``what``, such as "sysctl", precedes the name in messages.
    """

    def __init__(self, found: Any = (), *, what: str = "", host: str = "", kernel: str = "") -> None:
        super().__init__(found)
        self.what, self.host, self.kernel = what, host, kernel

    def __missing__(self, name: str) -> Absent:
        return Absent(f"{self.what} {name}".strip(), self.host, self.kernel)


def locate(value: T, host: str, kernel: str) -> T:
    """Return an `Absent` or `Readings` with host and kernel added for messages; any other value unchanged."""
    if isinstance(value, Absent):
        return cast(T, Absent(value.reading, host, kernel))
    if isinstance(value, Readings):
        return cast(T, Readings(value, what=value.what, host=host, kernel=kernel))
    return value
