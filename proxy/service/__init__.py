"""The program as a service: the `supervisor` owns sockets and workers, a `worker` serves."""
