#!lua
-- Publishes one item on a channel: assigns the next offset, stores the item, also in the change log, sends it to followers.
-- KEYS  1 state (hash: epoch, offset, replid)   2 history (stream, entry id = offset)   3 to 5 see append-change.part.lua, only with a change log
--       the last one: idempotency key (hash: epoch, offset), only with an id; marks of the slot (hash: name, mark), only with a mark
-- ARGV  1 topic   2 event   3 data (JSON text)   4 epoch for a new channel   5 history size   6 history seconds
--       7 state seconds   8 expected epoch or ''   9 expected offset   10 idempotency seconds, or with a mark 'name before mark'
--       11 to 18 see append-change.part.lua, only with a change log
-- Returns {outcome, epoch, offset} with outcome 'published', 'duplicate', 'conflict' or 'early'; offset as text.

local isLogged = ARGV[11] ~= nil
local lastKey = KEYS[isLogged and 6 or 3]
local markName, markBefore, mark = string.match(ARGV[10], '^(%S+) (%d*) (%d+)$')
if not mark and not string.match(ARGV[10], '^%d+$') then
  return redis.error_reply('ERR neither seconds nor a mark: ' .. ARGV[10])
end
if mark then
  -- Digits of one length: their order as text is that of the numbers.
  local stored = redis.call('HGET', lastKey, markName) or ''
  if stored >= mark or stored < markBefore then
    local state = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
    return { stored >= mark and 'duplicate' or 'early', state[1] or ARGV[4], state[2] or '0' }
  end
end
local idKey = not mark and lastKey
if idKey then
  local seen = redis.call('HMGET', idKey, 'epoch', 'offset')
  if seen[1] then
    return { 'duplicate', seen[1], seen[2] }
  end
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'replid')
local epoch = state[1] or ARGV[4]
local last = tonumber(state[2] or '0')

local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not state[1] then
  -- A history whose state expired belongs to no epoch.
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', '0', 'replid', replid)
  redis.call('EXPIRE', KEYS[1], ARGV[7])
end
-- Never shortened: older entries with a longer retention must not outlive the state.
redis.call('EXPIRE', KEYS[1], ARGV[7], 'GT')

local prevText = string.format('%.0f', last)
if ARGV[8] ~= '' and (ARGV[8] ~= epoch or tonumber(ARGV[9]) ~= last) then
  return { 'conflict', epoch, prevText }
end

-- A primary that was restarted or replaced may lack the latest writes and would assign their offsets again. So jump past them, to
-- the time in units of 2^-20 s. Offsets stay unique even after two jumps in a row, below 2^20 items a second.
local offset = last + 1
if state[3] and state[3] ~= replid then
  local block = 1048576
  local time = redis.call('TIME')
  local since2026 = (time[1] - 1767225600) * block + math.floor(time[2] * block / 1000000)
  offset = math.max((math.floor(last / block) + 1) * block, since2026)
end

local offsetText = string.format('%.0f', offset)
if tonumber(ARGV[5]) > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[5], offsetText .. '-0', 'p', prevText, 'e', ARGV[2], 'd', ARGV[3])
  redis.call('EXPIRE', KEYS[2], ARGV[6])
end
redis.call('HSET', KEYS[1], 'offset', offsetText, 'replid', replid)
if idKey then
  redis.call('HSET', idKey, 'epoch', epoch, 'offset', offsetText)
  redis.call('EXPIRE', idKey, ARGV[10])
end
if mark then
  redis.call('HSET', lastKey, markName, mark)
end
if isLogged then
-- include append-change.part.lua
end
redis.call('SPUBLISH', ARGV[1], 'p ' .. epoch .. ' ' .. offsetText .. ' ' .. prevText .. ' ' .. ARGV[2] .. '\n' .. ARGV[3])
return { 'published', epoch, offsetText }
