"""A virtual event loop and a virtual clock: an hour passes in milliseconds, in an order that a seed decides.

Purpose: run production code, unchanged, where waiting costs nothing and every run can be repeated.

Guarantees:

* CLK3: when nothing is runnable, the loop jumps to the next timer. Timers with equal deadlines run in the order in
  which they were made.
* CLK4: with ``pick="random"`` the next callback is drawn from a seeded tape; the seed is printed when a run fails.
* CLK2: :class:`VirtualClock` has three clocks. A wall jump moves no deadline; a suspended machine finds its boot time
  moved and its monotonic time not.
* TST3: :func:`eventually` waits on the virtual clock.
* TST4: :func:`run_virtual` fails on a task, a timer or an unhandled error that is left behind.
* Nothing runnable and no timer is a :class:`Deadlock` that names who waits, never a hang. Time that does not move
  after a million callbacks is a :class:`Livelock`.

What this does not do: no sockets, no threads, no name lookup; each is refused. The time that a callback takes on the
processor does not count.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, Final, Literal, NoReturn, TypeVar, TypeVarTuple, Unpack

from kruise.runtime.clock import Clock
from kruise.runtime.testing.tape import Tape

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH: Final = 1_767_225_600.0
"""Where virtual wall time starts: 2026-01-01T00:00:00Z."""

Belongs = Callable[[Context], bool]
"""Tells whether a callback with this context is one of somebody's."""

MAX_STEPS_AT_ONE_INSTANT: Final = 1_000_000
_SWEEP_AT: Final = 100


class HarnessError(RuntimeError):
    """The run itself went wrong, whatever the code under test did."""


class Deadlock(HarnessError):
    """Nothing is runnable and no timer is set: nobody could ever go on."""


class Livelock(HarnessError):
    """Callbacks run for ever, and time does not move."""


class TimeLimit(HarnessError):
    """The run needs more virtual time than it was given."""


class Refused(HarnessError):
    """The code under test asked for a socket, a thread or a name lookup."""


class Leak(AssertionError):
    """A task, a timer or an error was left behind."""


def _mark(timer: asyncio.TimerHandle, scheduled: bool) -> None:
    """Note whether *timer* is in the heap: when it is cancelled there, asyncio counts it."""
    timer._scheduled = scheduled  # type: ignore[attr-defined]


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number: a TaskGroup keeps its tasks in a set, and cancels them in that set's order."""

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number  # first: the base class hashes the task while it registers it
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without a selector. One callback runs per step; ``time()`` moves by jumps only."""

    # What asyncio's base class has and its published types lack.
    _ready: Any
    _scheduled: list[tuple[float, int, asyncio.TimerHandle]]
    _stopping: bool
    _timer_cancelled_count: int
    _check_closed: Callable[[], None]

    def __init__(self, tape: Tape | None = None, *, limit: float = float("inf")) -> None:
        super().__init__()
        self._now = 0.0
        self._places = 0
        self._tasks = 0
        self._tape = tape
        self._at_this_instant = 0
        self.limit = limit
        """The virtual second after which the run fails with TimeLimit."""
        self.steps = 0
        """Callbacks run so far."""
        self._stopped: dict[Belongs, list[asyncio.Handle]] = {}

    def time(self) -> float:
        """Return the virtual monotonic time, in seconds."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run *callback* at *when*; among equal deadlines in the order of the calls (CLK3)."""
        self._check_closed()
        self._places += 1
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        # With its place, a timer has an order among those of the same deadline; as tuples they are compared fast.
        heapq.heappush(self._scheduled, (when, self._places, timer))
        _mark(timer, True)
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run *callback* after *delay* virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_task(
        self, coro: Any, *, name: object | None = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Start a task. Its number, and so its name, is the same in every run."""
        self._check_closed()
        self._tasks += 1
        label = f"task-{self._tasks}" if name is None else str(name)
        return _Task(self._tasks, coro, loop=self, name=label, context=context, **options)

    def _run_once(self) -> None:
        self._drop_cancelled()
        ready, scheduled = self._ready, self._scheduled
        if not ready:
            if self._stopping:
                return
            if not scheduled:
                raise Deadlock(f"at {self._now:g} s nothing is runnable and no timer is set{self._waiting()}")
            self._jump(scheduled[0][0])
        while scheduled and scheduled[0][0] <= self._now:
            timer = heapq.heappop(scheduled)[2]
            _mark(timer, False)
            if timer.cancelled():
                self._timer_cancelled_count -= 1
            else:
                ready.append(timer)
        self._at_this_instant += 1
        if self._at_this_instant > MAX_STEPS_AT_ONE_INSTANT:
            self._at_this_instant = 0
            raise Livelock(f"over {MAX_STEPS_AT_ONE_INSTANT} callbacks ran at {self._now:g} s, and time does not move")
        if self._tape is None or len(ready) < 2:
            handle = ready.popleft()
        else:
            index = self._tape.draw(len(ready))
            handle = ready[index]
            del ready[index]
        if handle._cancelled:
            return
        if self._stopped:
            for belongs, held in self._stopped.items():
                if belongs(handle._context):
                    held.append(handle)
                    return
        self.steps += 1
        handle._run()

    def freeze(self, belongs: Belongs) -> None:
        """Run nothing whose context *belongs* to somebody, as SIGSTOP does: his timers go on and come due meanwhile."""
        self._stopped.setdefault(belongs, [])

    def thaw(self, belongs: Belongs) -> None:
        """Let what :meth:`freeze` has held back run now, in its order."""
        self._ready.extend(self._stopped.pop(belongs, ()))

    def _drop_cancelled(self) -> None:
        scheduled = self._scheduled
        while scheduled and scheduled[0][2].cancelled():
            _mark(heapq.heappop(scheduled)[2], False)
            self._timer_cancelled_count -= 1
        if self._timer_cancelled_count > _SWEEP_AT and self._timer_cancelled_count * 2 > len(scheduled):
            alive = []
            for entry in scheduled:
                if entry[2].cancelled():
                    _mark(entry[2], False)
                else:
                    alive.append(entry)
            heapq.heapify(alive)
            self._scheduled = alive
            self._timer_cancelled_count = 0

    def _jump(self, when: float) -> None:
        if when > self.limit:
            raise TimeLimit(f"not finished after {self.limit:g} virtual seconds{self._waiting()}")
        if when > self._now:
            self._now = when
            self._at_this_instant = 0

    def _waiting(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=hash)
        return "".join(f"\n  {describe_task(task)}" for task in tasks)

    def timers_left(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are set and not cancelled."""
        return [timer for _, _, timer in sorted(self._scheduled) if not timer.cancelled()]

    # asyncio's hooks for a selector: there is none.
    def _process_events(self, event_list: object) -> None: ...

    def _write_to_self(self) -> None: ...


def _refuse(*_args: object, **_options: object) -> NoReturn:
    raise Refused("the virtual loop has no sockets, threads, processes or name lookup: pass in the seam instead")


async def _refuse_async(*_args: object, **_options: object) -> NoReturn:
    _refuse()


_REFUSED: Final = (
    "run_in_executor add_reader add_writer remove_reader remove_writer add_signal_handler remove_signal_handler"
)
_REFUSED_ASYNC: Final = (
    "getaddrinfo getnameinfo create_connection create_server create_datagram_endpoint create_unix_connection "
    "create_unix_server connect_accepted_socket connect_read_pipe connect_write_pipe subprocess_exec subprocess_shell "
    "sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall sock_sendto sock_sendfile sock_connect "
    "sock_accept sendfile start_tls"
)
for _name in _REFUSED.split():
    setattr(VirtualLoop, _name, _refuse)
for _name in _REFUSED_ASYNC.split():
    setattr(VirtualLoop, _name, _refuse_async)


def describe_task(task: asyncio.Task[Any]) -> str:
    """Return a task's name and the line at which it waits."""
    frames = task.get_stack(limit=1)
    coro = task.get_coro()
    where = getattr(coro, "__qualname__", repr(coro))
    return f"{task.get_name()}: {where}" + (
        f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    )


class VirtualClock:
    """The clocks of one simulated machine on a :class:`VirtualLoop`. Several may share a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *, wall: float = EPOCH) -> None:
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._wall = wall - self._loop.time()
        self._slept = 0.0

    def now(self) -> float:
        return self._wall + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    def boottime(self) -> float:
        return self._loop.time() + self._slept

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Move the wall clock, as an administrator or NTP does. No deadline moves."""
        self._wall += seconds

    def suspend(self, seconds: float) -> None:
        """Let the machine have slept: wall and boot time move on, monotonic time stands still (CLK2)."""
        self._wall += seconds
        self._slept += seconds


Main = Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]] | Callable[[VirtualClock], Coroutine[Any, Any, T]]
"""What :func:`run_virtual` takes: a coroutine, or a function that makes one, from a clock or from nothing."""


def run_virtual(
    main: Main[T],
    *,
    seed: int = 0,
    pick: Literal["fifo", "random"] = "fifo",
    timeout: float = 86_400.0,
    tape: Tape | None = None,
) -> T:
    """Run *main* on a new virtual loop and return its result.

    *timeout* is in virtual seconds. With ``pick="random"`` the order of callbacks is drawn from *tape*, or from a new
    tape with *seed*. Raises what *main* raises; HarnessError when the run gets stuck; Leak when *main* has left a task,
    a timer or an unhandled error behind. Whatever is raised carries the seed, which is printed as well (CLK4).
    """
    if tape is None and pick == "random":
        tape = Tape(seed)
    loop = VirtualLoop(tape, limit=timeout)
    unhandled: list[str] = []
    loop.set_exception_handler(lambda _loop, context: unhandled.append(_describe_error(context)))
    try:
        try:
            result = loop.run_until_complete(_start(main, loop))
            leaks = [f"task {describe_task(t)}" for t in sorted(asyncio.all_tasks(loop), key=hash)]
            leaks += [f"timer at {t.when():g} s: {t!r}" for t in loop.timers_left()] if not leaks else []
        finally:
            _cancel_all(loop)
        leaks += [f"error {text}" for text in unhandled]
        if leaks:
            raise Leak("left behind:\n  " + "\n  ".join(leaks))
    except BaseException as error:
        note = f"virtual run: seed={tape.seed if tape else seed} pick={pick} at={loop.time():g}s steps={loop.steps}"
        error.add_note(note)
        sys.stderr.write(note + "\n")
        raise
    finally:
        loop.close()
    return result


def _start(main: Main[T], loop: VirtualLoop) -> Coroutine[Any, Any, T]:
    if inspect.iscoroutine(main):
        return main
    assert callable(main), "run_virtual takes a coroutine or a function that makes one"
    make: Callable[..., Coroutine[Any, Any, T]] = main
    return make(VirtualClock(loop)) if inspect.signature(make).parameters else make()


def _describe_error(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message', '')}: {error!r}" if error is not None else str(context.get("message", ""))


def _cancel_all(loop: VirtualLoop) -> None:
    """End what is left, so that no coroutine is destroyed while it runs."""
    loop.limit = float("inf")
    for _ in range(3):
        left = sorted(asyncio.all_tasks(loop), key=hash)
        for task in left:
            task.cancel()
        try:
            if left:
                loop.run_until_complete(_settle(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        except HarnessError:
            continue
        break


async def _settle(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(
    condition: Callable[[], object], clock: Clock, timeout: float = 60.0, *, every: float = 0.05, what: str = ""
) -> Any:
    """Wait until *condition* is true, and return what it returned (TST3).

    *condition* may be a coroutine function. It is asked every *every* seconds of *clock*. An AssertionError inside it
    counts as "not yet", and its text is shown at the end. Raises AssertionError after *timeout* seconds.
    """
    deadline = clock.monotonic() + timeout
    last = ""
    while True:
        try:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
        except AssertionError as error:
            value, last = None, f": {error}"
        if value:
            return value
        if clock.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"{name} did not hold within {timeout:g} s{last}")
        await clock.sleep(every)
