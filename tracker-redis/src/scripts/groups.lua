-- Groups by the index alone, of one status after another: as `count` answers them.
-- ARGV: how many groups at most, the statuses, where to go on (status and fingerprint) or nothing, the one fingerprint that
-- is asked for or nothing.
local wanted = tonumber(ARGV[1])
local statuses, resume, only = ARGV[2], ARGV[3], ARGV[4]
local answer = {}
for i = 1, #statuses do
  local status = sub(statuses, i, i)
  if resume == '' or not less(status, sub(resume, 1, 1)) then
    local prefix = 'h' .. status
    local min = '[' .. prefix .. only
    if resume ~= '' and sub(resume, 1, 1) == status then min = '(' .. prefix .. sub(resume, 2) .. string.rep('\255', 8) end
    local max = '(h' .. char(byte(status) + 1)
    while true do
      local least = call('ZRANGE', INDEX, min, max, 'BYLEX', 'LIMIT', 0, 1)[1]
      if not least then break end
      local print, id = sub(least, 3, 10), sub(least, 11)
      if only ~= '' and print ~= only then break end
      if wanted == 0 then return { answer, resume } end
      wanted = wanted - 1
      -- Behind every time that there is, and before the next fingerprint.
      local range = 'g' .. status .. print
      local stop = '(' .. range .. string.rep('\255', 9)
      local first = call('ZRANGE', INDEX, '[' .. range, stop, 'BYLEX', 'LIMIT', 0, 1)[1]
      local last = call('ZRANGE', INDEX, stop, '[' .. range, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
      local count = call('ZLEXCOUNT', INDEX, '[' .. range, stop)
      for _, part in ipairs({
        print, tostring(count), sub(first or '', 11, 18), sub(last or '', 11, 18), id, call('HGET', ENTRIES, id) or '',
      }) do
        answer[#answer + 1] = part
      end
      resume = status .. print
      min = '(' .. prefix .. print .. string.rep('\255', 9)
    end
  end
end
return { answer, false }
