-- Whether the lease on a slot's change log, or on a shard of a SQL source, has this fencing token and has not expired. A lease also ends when
-- its Redis is restarted or replaced: the Redis may lack its latest writes then, and the lease holder has to read again what is left.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local function isLeaseHeld(log, fence)
  local lease = redis.call('HMGET', log .. ':reader', 'fence', 'until', 'replid')
  return lease[1] == fence and lease[3] == replid and tonumber(lease[2]) > now
end
