-- Reads a channel's position and what is kept after an offset.
-- KEYS  1 state (hash: epoch, offset, replid)   2 history (stream, entry id = offset)
-- ARGV  1 epoch for a new channel   2 after (exclusive), or ''   3 limit   4 max bytes of data   5 wanted epoch, or ''
--       6 state seconds   7 '1': the bounds keep the newest, and entries come newest first
--       8 'read-only', or absent: nothing is written, so that a replica can be asked
-- Returns {} where a replica knows no state, else
-- {epoch, offset, more (0 or 1), ms that the history is kept for, id, prev, event, data, id, prev, event, data, …}

local state = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
local epoch = state[1]
local offset = state[2] or '0'
local readOnly = ARGV[8] == 'read-only'
if not epoch and readOnly then
  return {}
end
if not epoch then
  epoch = ARGV[1]
  local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', '0', 'replid', replid)
end
if readOnly then
  -- The primary renews what is followed.
elseif offset == '0' then
  -- An hour, renewed while the channel is followed: names that are only asked for must not fill the store.
  redis.call('EXPIRE', KEYS[1], 3600)
else
  redis.call('EXPIRE', KEYS[1], ARGV[6], 'GT')
end
local reply = { epoch, offset, 0, 0 }
local limit = tonumber(ARGV[3])
if (ARGV[5] ~= '' and ARGV[5] ~= epoch) or limit == 0 or ARGV[2] == offset then
  return reply
end

-- In chunks, so that a long history of large items is not materialised past the bounds.
local maxBytes = tonumber(ARGV[4])
local newest = ARGV[7] == '1'
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2] .. '-0'
local to = '+'
local count, bytes = 0, 0
reply[4] = redis.call('PTTL', KEYS[2])
while true do
  local entries = newest and redis.call('XREVRANGE', KEYS[2], to, from, 'COUNT', 64)
    or redis.call('XRANGE', KEYS[2], from, to, 'COUNT', 64)
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    bytes = bytes + #fields[6]
    if count == limit or (bytes > maxBytes and count > 0) then
      reply[3] = 1
      return reply
    end
    count = count + 1
    local at = #reply
    reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = entry[1], fields[2], fields[4], fields[6]
    if newest then
      to = '(' .. entry[1]
    else
      from = '(' .. entry[1]
    end
  end
  if #entries < 64 then
    return reply
  end
end
