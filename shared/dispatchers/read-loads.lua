#!lua flags=no-writes
-- Lists the reports of processes, including those that are gone and not yet removed.
-- KEYS  1 reports (hash: instance → Unix ms when it was heard, and its report)
-- Returns {now in Unix ms, reports}.

local time = redis.call('TIME')
return { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), redis.call('HVALS', KEYS[1]) }
