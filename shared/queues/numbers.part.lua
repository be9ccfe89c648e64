-- The next sequences and fencing tokens. KEYS[1] names their counter: one for each Redis, in a cluster one for each slot. No number
-- is given twice. A primary that was restarted, or replaced another one, may lack the latest writes: it begins past all numbers before,
-- at the present time in units of 2^-20 s since 2026, or at the next multiple of 2^20 where that is later.
-- Returns the number before the first of `count`, and the key that keeps the last one.
local function takeNumbers(count)
  local info, name = redis.call('INFO', 'replication'), 'master_replid:'
  local from = string.find(info, name, 1, true) + #name
  local replid = string.sub(info, from, from + 39)
  local key = KEYS[1] .. ':' .. replid
  local last = redis.call('INCRBY', key, count)
  count = tonumber(count)
  if last > count then
    return last - count, key
  end
  local block = 1048576
  local before = redis.call('GET', KEYS[1])
  local given = before and tonumber(redis.call('GET', KEYS[1] .. ':' .. before) or '0') or 0
  local time = redis.call('TIME')
  local since2026 = (time[1] - 1767225600) * block + math.floor(time[2] * block / 1000000)
  local first = math.max((math.floor(given / block) + 1) * block, since2026)
  redis.call('SET', key, string.format('%d', first + count))
  if before then
    redis.call('DEL', KEYS[1] .. ':' .. before)
  end
  redis.call('SET', KEYS[1], replid)
  return first, key
end
