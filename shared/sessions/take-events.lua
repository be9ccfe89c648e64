#!lua flags=allow-oom
-- Gives due session events to one caller, those of a session in order. A session is over once its disconnected is given out.
-- KEYS  1 a name in the slot of the first prefix
-- ARGV  1 ms until other callers get them as well   2 events at most   3 ms to remember that a session is over
--       then the prefixes of the slots' keys
-- Returns {ms until the next event is due, 0 where more are due, -1 where none is left; then for each event
-- {'c' or 'd', 'session user', 'began ended reason' and, in the next line, the profile}}.

local maxReplyBytes = 1048576
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nowText = string.format('%.0f', now)
local laterText = string.format('%.0f', now + ARGV[1])
local most = tonumber(ARGV[2])
local reply = { -1 }
local bytes = 0

for at = 4, #ARGV do
  local prefix = ARGV[at]
  local events = prefix .. 'session-events'
  local taken = {}
  local function take(kind, field, record)
    local member = kind .. ' ' .. field
    if not taken[member] then
      taken[member] = true
      redis.call('ZADD', events, laterText, member)
      reply[#reply + 1] = { kind, field, record }
      bytes = bytes + #record
    end
  end
  local left = most - #reply + 1
  for _, member in ipairs(left > 0 and redis.call('ZRANGE', events, '-inf', nowText, 'BYSCORE', 'LIMIT', 0, left) or {}) do
    if bytes >= maxReplyBytes then
      break
    end
    local kind, field = string.match(member, '^(%a) (.*)$')
    local record = redis.call('HGET', prefix .. 'session-profiles', field)
    if not record then
      redis.call('ZREM', events, member)
    elseif kind == 'c' then
      take('c', field, record)
    else
      -- Its connected may be with a caller that is gone.
      if redis.call('ZSCORE', events, 'c ' .. field) then
        take('c', field, record)
      end
      local session, user = string.match(field, '^(%S+) (.*)$')
      redis.call('SET', prefix .. 'ended:' .. session .. ':' .. user, 'over', 'PX', ARGV[3])
      take('d', field, record)
    end
  end
  local first = redis.call('ZRANGE', events, 0, 0, 'WITHSCORES')
  if first[2] then
    local leftMs = math.max(0, tonumber(first[2]) - now)
    if reply[1] < 0 or leftMs < reply[1] then
      reply[1] = leftMs
    end
  end
end
return reply
