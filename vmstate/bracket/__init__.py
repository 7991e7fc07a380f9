"""The bracket: two handler entries around a device's depth, lower and higher, of which the walk meets one first."""

from vmstate.bracket.lower_higher import Bracket, BracketOwner

__all__ = ["Bracket", "BracketOwner"]
