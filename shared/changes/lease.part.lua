-- Whether the lease on a slot's change log has this fencing token and has not expired.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function isLeaseHeld(log, fence)
  local lease = redis.call('HMGET', log .. ':reader', 'fence', 'until')
  return lease[1] == fence and tonumber(lease[2]) > now
end
