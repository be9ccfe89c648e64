#!lua flags=no-writes
-- Reads the position of a channel and the entries kept after an offset.
-- KEYS  1 state (hash: epoch, offset, replid)   2 history (stream, entry id = offset)
-- ARGV  1 after (exclusive), or ''   2 limit   3 max bytes of data   4 required epoch, or ''
--       5 '1': the bounds keep the newest entries, and the reply lists them newest first
-- Returns {} where the channel has no state, else
-- {epoch, offset, more (0 or 1), ms until the history expires, seconds until the state expires,
--  id, prev, event, data, id, prev, event, data, …}

local state = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
local epoch = state[1]
local offset = state[2] or '0'
if not epoch then
  return {}
end
local reply = { epoch, offset, 0, 0, redis.call('TTL', KEYS[1]) }
local limit = tonumber(ARGV[2])
if (ARGV[4] ~= '' and ARGV[4] ~= epoch) or limit == 0 or ARGV[1] == offset then
  return reply
end

-- Reads in chunks, so that a long history of large items is not loaded past the bounds.
local maxBytes = tonumber(ARGV[3])
local newest = ARGV[5] == '1'
local from = ARGV[1] == '' and '-' or '(' .. ARGV[1] .. '-0'
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
