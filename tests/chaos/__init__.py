"""The service is killed, cancelled and frozen at every step: no job is lost, run twice or left behind.

``make chaos`` runs all of it and prints a table; ``test_sample`` runs a part of it with the tests.

========== =========================================================================
service    the service under test, in a process that kills or freezes itself
process    such a process, as whoever starts it sees it
ground     what outlives the service: engine, StorageHub, folder of its own for a run
jobs       the kinds of jobs, and how each is to end
checker    what must be true of a job that has ended, and of what is left
kills      death at each kill point, by every way to come back
cancels    a cancel against each step, from several sides at once
freezes    two workers on one database, one of them stopped past its lease
lanes      many runs side by side
report     the table
========== =========================================================================
"""
