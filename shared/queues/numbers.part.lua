-- The next numbers of a slot, for sequences and fencing tokens. No number is given twice, also where a primary was restarted
-- or replaced by one that lacks the latest writes: it begins past them, at the time in units of 2^-20 s.
-- Returns the number before the first of `count`.
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local function takeNumbers(prefix, count)
  local key = prefix .. 'numbers:' .. replid
  local last = redis.call('INCRBY', key, count)
  if last > count then
    return last - count
  end
  local block = 1048576
  local before = redis.call('GET', prefix .. 'numbers')
  local given = before and tonumber(redis.call('GET', prefix .. 'numbers:' .. before) or '0') or 0
  local time = redis.call('TIME')
  local since2026 = (time[1] - 1767225600) * block + math.floor(time[2] * block / 1000000)
  local first = math.max((math.floor(given / block) + 1) * block, since2026)
  redis.call('SET', key, string.format('%.0f', first + count))
  if before then
    redis.call('DEL', prefix .. 'numbers:' .. before)
  end
  redis.call('SET', prefix .. 'numbers', replid)
  return first
end
