"""A reading that a host's kernel lacks: a value of its own, never 0 and never a failure of the kernel."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar, cast

from mptcp_lab.errors import Unsupported

T = TypeVar("T")


class Absent:
    """Stands for a counter, sysctl, field or answer that a kernel does not have.

    It can be shown and kept. Comparing it, calculating with it, or asking whether it is true raises
    `Unsupported`, which names the reading and the kernel: no check holds or fails by what was never counted.
    """

    def __init__(self, reading: str, host: str = "", kernel: str = "") -> None:
        self.reading, self.host, self.kernel = reading, host, kernel

    def __repr__(self) -> str:
        return f"<absent: {self.reading}>"

    def unsupported(self) -> Unsupported:
        """Return the error that any use of the value raises."""
        kernel = f"Linux {self.kernel}" if self.kernel else "this kernel"
        return Unsupported(self.reading, f"{kernel} does not have it", self.host)

    def _refuse(self, *_: object) -> NoReturn:
        raise self.unsupported()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python and pytest look for what an object can do
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
    """What was read, by name; a name that the kernel lacks gives an `Absent`, ``get`` gives its default.

    ``what`` goes before a name in messages, such as "sysctl".
    """

    def __init__(self, found: Any = (), *, what: str = "", host: str = "", kernel: str = "") -> None:
        super().__init__(found)
        self.what, self.host, self.kernel = what, host, kernel

    def __missing__(self, name: str) -> Absent:
        return Absent(f"{self.what} {name}".strip(), self.host, self.kernel)


def locate(value: T, host: str, kernel: str) -> T:
    """Return an `Absent` or `Readings` with host and kernel for its messages; any other value as it is."""
    if isinstance(value, Absent):
        return cast(T, Absent(value.reading, host, kernel))
    if isinstance(value, Readings):
        return cast(T, Readings(value, what=value.what, host=host, kernel=kernel))
    return value
