"""The monitor's wire: requests in, answers and events out, over sockets."""
