"""Places for so many changes at a time, given in the order in which they were asked for."""

import threading
from collections import deque

from vmstate import Clock, Lock


class Place:
    """One change's place in the line, and then its place; `Places.line_up` makes it."""

    def __init__(self, places: "Places", gate: Lock) -> None:
        self._places = places
        self.gate = gate
        self.held = self.given_back = False

    def wait(self) -> bool:
        """Wait until it is this one's turn; False if the place was given back meanwhile, so that nobody needs it."""
        self.gate.acquire()
        return not self.given_back

    def give_back(self) -> None:
        """Let the next in line have it; a second time does nothing."""
        self._places.take_back(self)


class Places:
    """
    `most` places.

    Guarantees:
    - Never more are held than there are, and none is left free while somebody waits.
    - Whoever lined up first gets one first.
    - One that is given back while its owner waits, or before it has come, lets the owner go on, and tells it so.

    A place's gate is a lock of the clock, held until it is its turn. The mutex is held for a moment only, and nothing
    of the clock is waited for under it, or the clock would wait for whoever waits for the mutex.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._free = most
        self._line: deque[Place] = deque()

    def line_up(self, whose: str) -> Place:
        """Give a place, or a place in the line; `whose` it is says what is waited for."""
        gate = self._clock.lock(f"a place for {whose}")
        gate.acquire()
        place = Place(self, gate)
        with self._mutex:
            at_once = place.held = self._free > 0  # it may be held a moment later too, and its gate open then
            if at_once:
                self._free -= 1
            else:
                self._line.append(place)
        if at_once:
            gate.release()
        return place

    def take_back(self, place: Place) -> None:
        """Take a place back, and give it to the next in line."""
        following: Place | None = None
        with self._mutex:
            if place.given_back:
                return
            place.given_back = True
            if not place.held:
                self._line.remove(place)
                following = place
            elif self._line:
                following = self._line.popleft()
                following.held = True
            else:
                self._free += 1
        if following is not None:
            following.gate.release()
