#!lua
-- Begins a session, takes it over, or announces it, unless it has been revoked.
-- KEYS  1 sessions of the user (hash: session → 'claim holder connectedAt node')   2 the session, ended ('claim connectedAt')
--       3 revocations of the user (hash: name → Unix ms)   4 holdings of the holder in this slot (set)
--       5 profiles (hash: 'session user' → 'began ended reason' and, in the next line, the profile)
--       6 session events (sorted set: 'c' or 'd', session and user → Unix ms at which it is due)
-- ARGV  1 'begin', 'resume' or 'announce'   2 session   3 claim   4 holder   5 node   6 topic of the user   7 member of KEYS[4]
--       8 Unix ms of the last check: later revocations end the session   9 field of KEYS[5]   10 profile or ''   11 1: connected is due
--       12 Unix ms at which the node sent it, or less. Without an answer the node gives its session a later claim than that by itself: a resume that
--       Redis executes after it hung does not outrank that one
-- Returns {outcome, claim, checked, took, name, ms, name, ms, …}: outcome 'held', 'over', 'replaced' or 'revoked'; checked:
-- Unix ms for the next check; took: '1' where another holder lost the session and was notified; then the revocations.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claim = tonumber(ARGV[3])

local nowText = string.format('%.0f', now)
local reply = { 'held', '', '', '0' }
local checked = now
local revoked = redis.call('HGETALL', KEYS[3])
for i = 1, #revoked, 2 do
  local name = revoked[i]
  local concerned = name == 'user' or name == 'session ' .. ARGV[2]
  if concerned and ARGV[1] ~= 'begin' and tonumber(revoked[i + 1]) >= tonumber(ARGV[8]) then
    reply[1] = 'revoked'
    return reply
  end
  if concerned then
    checked = math.max(checked, revoked[i + 1] + 1)
  end
  reply[#reply + 1] = name
  reply[#reply + 1] = revoked[i + 1]
end

local record = redis.call('HGET', KEYS[1], ARGV[2])
local ended = not record and redis.call('GET', KEYS[2])
local lastClaim, holder, connectedAt
if record then
  lastClaim, holder, connectedAt = string.match(record, '^(%d+) (%S+) (%d+)')
elseif ended then
  lastClaim, connectedAt = string.match(ended, '^(%d+) (%d+)')
end
lastClaim = tonumber(lastClaim or '0')

if ARGV[1] == 'announce' then
  -- Its disconnected was taken, or is due since the grace time is over.
  if ended == 'over' or not record and not ended and redis.call('ZSCORE', KEYS[6], 'd ' .. ARGV[9]) then
    reply[1] = 'over'
    return reply
  end
  if lastClaim > claim then
    reply[1] = 'replaced'
    return reply
  end
elseif ARGV[1] == 'resume' and lastClaim == 0 then
  reply[1] = 'over'
  return reply
else
  local latest = ARGV[1] == 'resume' and math.min(now, tonumber(ARGV[12])) or now
  claim = math.max(latest, claim, lastClaim + 1)
end

local claimText = string.format('%.0f', claim)
reply[2] = claimText
reply[3] = string.format('%.0f', checked)
connectedAt = connectedAt or nowText
redis.call('HSET', KEYS[1], ARGV[2], claimText .. ' ' .. ARGV[4] .. ' ' .. connectedAt .. ' ' .. ARGV[5])
redis.call('SADD', KEYS[4], ARGV[7])
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[5], ARGV[9], connectedAt .. ' 0 -\n' .. ARGV[10])
  if ARGV[11] == '1' then
    redis.call('ZADD', KEYS[6], nowText, 'c ' .. ARGV[9])
  end
end
if ended then
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[6], 'd ' .. ARGV[9])
elseif record and lastClaim < claim then
  reply[4] = '1'
  redis.call('SPUBLISH', ARGV[6], '{"kind":"replaced","sessionId":"' .. ARGV[2] .. '","claim":' .. claimText .. '}')
end
return reply
