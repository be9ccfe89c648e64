-- Refuses a caller that knows an older map of cells than the fence demands, before the script reads or writes anything.
-- Takes the last key, which names the fence of this cell (string: version), and the last value, the version of the caller's map.
do
  local least = redis.call('GET', table.remove(KEYS))
  local known = tonumber(table.remove(ARGV))
  if not least or known < tonumber(least) then
    return redis.error_reply('OUTDATED ' .. (least or 'no fence'))
  end
end
