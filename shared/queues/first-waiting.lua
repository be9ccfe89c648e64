#!lua flags=no-writes
-- Reads the first item of some queues of a service: of those that are first in their lanes, and of those that are leased.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 class   2 service   3 tenant   4 source of its items   then the prefixes of the slots' keys
-- Returns their contents.

-- Contents and bytes of all slots together; leases that are looked at in one slot.
local maxContents, maxBytes, maxLeases = 64, 1048576, 256

local contents, bytes = {}, 0
local function add(prefix, queue)
  local content = #contents < maxContents and bytes < maxBytes and redis.call('LINDEX', prefix .. 'q:' .. queue, '1')
  if content then
    contents[#contents + 1] = content
    bytes = bytes + #content
  end
end
for at = 5, #ARGV do
  local prefix = ARGV[at]
  if #contents < maxContents and redis.call('HGET', prefix .. 'sources', ARGV[4]) then
    for _, kind in ipairs({ 'f', 'r' }) do
      local entry = redis.call('LINDEX', prefix .. 'r:' .. ARGV[1] .. ':' .. ARGV[2] .. ':' .. kind .. ':' .. ARGV[3], '0')
      if entry then
        add(prefix, string.match(entry, '^%d+ %d+ (.*)$'))
      end
    end
    for _, lease in ipairs(redis.call('ZRANGE', prefix .. 'leases', '0', maxLeases - 1)) do
      local queue, service = string.match(lease, '^%d+ %S+ %d+ %d+ %S* %S* %d+ %d+ (([^:]*):.*)$')
      if service == ARGV[2] then
        add(prefix, queue)
      end
    end
  end
end
return contents
