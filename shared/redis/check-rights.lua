#!lua flags=no-writes
-- Finds commands that the user may not run on the keys and topics of this deployment.
-- KEYS  1 name of a key, also used as a topic
-- ARGV  commands; a subcommand follows a '|'
-- Returns the commands that are denied.

local denied = {}
for _, command in ipairs(ARGV) do
  local name, subcommand = string.match(command, '^([^|]+)|?(.*)$')
  local allowed
  if subcommand ~= '' then
    allowed = redis.acl_check_cmd(name, subcommand)
  else
    allowed = redis.acl_check_cmd(name, KEYS[1], KEYS[1])
  end
  if not allowed then
    denied[#denied + 1] = command
  end
end
return denied
