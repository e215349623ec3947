"""What the state machine of ``tests/stateful`` plays with, and what it holds jobs to.

========= ==================================================================================
world     the service as a process, between a stand-in engine and an embedded StorageHub
tickets   what was submitted and what has become known of it
outcomes  how a job may end, by what has happened to it
========= ==================================================================================
"""
