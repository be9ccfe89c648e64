#!lua
-- Stores an endpoint if its condition holds, and announces the change.
-- KEYS  1 documents (hash: id → see parseEndpoint)   2 versions (hash: last, floor, replid)   3 changed (zset: id by version)
-- ARGV  1 id   2 endpoint (JSON text)   3 required version, or 'new'   4 start of a new generation: 'now' (the next ms), 'same' or Unix ms; '' for none
--       5 '1': what earlier generations have queued is still sent   6 the new generation   7 most endpoints   8 topic
-- Returns {outcome, head} with outcome 'stored', 'changed_meanwhile', 'none' or 'full'.
-- include change-endpoint.part.lua

local stored = redis.call('HGET', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local nextMs = string.format('%.0f', nowMs + 1)
local startsAt, createdAt, generation, validFrom = nextMs, string.format('%.0f', nowMs), 0, 0
if ARGV[3] == 'new' then
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[7]) then
    return { 'full', '' }
  end
else
  if not stored then
    return { 'none', '' }
  end
  local version
  version, startsAt, createdAt, generation, validFrom = string.match(stored, '^(%d+) (%d+) (%d+) (%d+) (%d+)')
  if version ~= ARGV[3] then
    return { 'changed_meanwhile', '' }
  end
  if ARGV[4] ~= '' then
    generation = ARGV[6]
    if ARGV[5] ~= '1' then
      validFrom = generation
    end
    if ARGV[4] ~= 'same' then
      startsAt = ARGV[4] == 'now' and nextMs or ARGV[4]
    end
  end
end
local head = nextVersion(KEYS[1], KEYS[2], KEYS[3], ARGV[1]) .. ' ' .. startsAt .. ' ' .. createdAt .. ' ' .. string.format('%d %d', generation, validFrom)
redis.call('HSET', KEYS[1], ARGV[1], head .. '\n' .. ARGV[2])
redis.call('SPUBLISH', ARGV[8], ARGV[1])
return { 'stored', head }
