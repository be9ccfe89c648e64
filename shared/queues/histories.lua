#!lua flags=no-writes
-- Names the history of this Redis. The name changes once the Redis was restarted or replaced, and may lack its latest writes.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- Returns the name, short: it goes with every item.

return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x%x%x%x%x%x%x%x)')
