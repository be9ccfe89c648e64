-- Appends the publication to the change log of its slot, and removes what is past the caps: at most 64 changes, or 512 KiB, in one call.
-- KEYS  3 log (stream, entry id = time-number, fields: h 'epoch offset prev event channel', d data, then r 'shard id' of a row, or o origin)
--       4 its state (hash: newest, trimmed: the last change removed, resumed: the newest when Redis was last restarted or replaced,
--         bytes, oldest: time of the oldest change or earlier, replid; floor, rowBytes, hole: see note-rows.part.lua)
--       5 live cursors (sorted set: name, time of its place)
-- ARGV  11 most bytes   12 most ms   13 ms for which changes are kept that no live cursor needs   14 topic of news   15 channel
--       16 'shard id' of the row of a SQL source, or ''   17 most bytes of noted rows   18 origin, or ''

local log = redis.call('HMGET', KEYS[4], 'newest', 'trimmed', 'resumed', 'bytes', 'oldest', 'replid', 'floor', 'rowBytes', 'hole')
local newest, trimmed, resumed = log[1] or '0-0', log[2] or '0-0', log[3] or '0-0'
local bytes, oldest = tonumber(log[4] or '0'), tonumber(log[5] or '0')
local floor, rowBytes, hole = log[7] or trimmed, tonumber(log[8] or '0'), log[9] or ''
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local newestTime, number = string.match(newest, '^(%d+)-(%d+)$')
newestTime, number = tonumber(newestTime), tonumber(number)
if not log[1] or redis.call('EXISTS', KEYS[3]) == 0 then
  -- It expired, or a log without its state is left of another.
  redis.call('DEL', KEYS[3], KEYS[3] .. ':rows')
  floor, rowBytes, hole = newest, 0, ''
  trimmed, bytes, oldest = newest, 0, math.max(now, newestTime)
end
if log[1] and log[6] ~= replid then
  -- The latest writes may be lost: a later time, so that no place is given twice.
  resumed = newest
  newestTime = newestTime + 1
end
local at = math.max(now, newestTime)
local head = epoch .. ' ' .. offsetText .. ' ' .. prevText .. ' ' .. ARGV[2] .. ' ' .. ARGV[15]
newest = string.format('%.0f-%.0f', at, number + 1)
if ARGV[16] ~= '' then
  redis.call('XADD', KEYS[3], newest, 'h', head, 'd', ARGV[3], 'r', ARGV[16])
elseif ARGV[18] ~= '' then
  redis.call('XADD', KEYS[3], newest, 'h', head, 'd', ARGV[3], 'o', ARGV[18])
else
  redis.call('XADD', KEYS[3], newest, 'h', head, 'd', ARGV[3])
end
bytes = bytes + #head + #ARGV[3] + 64

local maxBytes = tonumber(ARGV[11])
local oldestKept = now - tonumber(ARGV[12])
local keptFrom = now - tonumber(ARGV[13])
-- A second of slack, and for unclaimed changes every 16th call, so that most calls do not look.
if bytes > maxBytes or oldest < oldestKept - 1000 or (oldest < keptFrom - 1000 and number % 16 == 0) then
-- include note-rows.part.lua
  -- Cursors that are past the caps hold nothing back any more. One before all changes (0) has no age: only rows are noted for it.
  local past = redis.call('ZRANGE', KEYS[5], '(0', string.format('(%.0f', oldestRow), 'BYSCORE', 'LIMIT', '0', '16')
  if #past > 0 then
    redis.call('ZREM', KEYS[5], unpack(past))
  end
  local slowest = redis.call('ZRANGE', KEYS[5], string.format('%.0f', oldestKept), '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES')[2]
  keptFrom = math.max(oldestKept, math.min(keptFrom, tonumber(slowest or keptFrom)))
  local target = bytes > maxBytes and maxBytes - maxBytes / 32 or maxBytes
  local before = bytes
  local removed = 0
  local from = (bytes > target or oldest < keptFrom) and '-'
  while from do
    local entries = redis.call('XRANGE', KEYS[3], from, '+', 'COUNT', '16')
    from = nil
    for _, entry in ipairs(entries) do
      local id, fields = entry[1], entry[2]
      oldest = tonumber(string.match(id, '^%d+'))
      if id == newest or removed == 64 or before - bytes > 524288 or (bytes <= target and oldest >= keptFrom) then
        from = nil
        break
      end
      bytes = bytes - #fields[2] - #fields[4] - 64
      removed = removed + 1
      noteRemoved(id, fields)
      trimmed = id
      from = '(' .. id
    end
  end
  if removed > 0 then
    local trimmedTime, trimmedNumber = string.match(trimmed, '^(%d+)-(%d+)$')
    redis.call('XTRIM', KEYS[3], 'MINID', string.format('%s-%.0f', trimmedTime, trimmedNumber + 1))
  end
  if rowBytes > 0 or hole ~= '' then
    forgetRows()
  end
end
redis.call('HSET', KEYS[4], 'newest', newest, 'trimmed', trimmed, 'resumed', resumed, 'bytes', string.format('%.0f', bytes), 'oldest',
  string.format('%.0f', oldest), 'replid', replid)
if rowBytes > 0 or hole ~= '' or log[8] then
  redis.call('HSET', KEYS[4], 'floor', floor, 'rowBytes', string.format('%.0f', rowBytes), 'hole', hole)
end
redis.call('PEXPIRE', KEYS[3], ARGV[12])
redis.call('SPUBLISH', ARGV[14], ARGV[15])
