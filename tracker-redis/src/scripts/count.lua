-- Groups of what matches, by reading it: each as fingerprint, how many, first, last, the least id and its value; and where
-- to go on, if it is not to its end.
local groups, order = {}, {}
local rest = scan(function(id, value)
  if byte(value, rank_at(value) + 33) == 1 then
    local print, first = sub(value, -23, -16), first_of(value)
    local group = groups[print]
    if not group then
      groups[print] = { count = 1, first = first, last = first, id = id, value = value }
      order[#order + 1] = print
    else
      group.count = group.count + 1
      if less(first, group.first) then group.first = first end
      if less(group.last, first) then group.last = first end
      if less(id, group.id) then group.id, group.value = id, value end
    end
  end
  return false
end, function() end)
local answer = {}
for _, print in ipairs(order) do
  local group = groups[print]
  for _, part in ipairs({ print, tostring(group.count), group.first, group.last, group.id, group.value }) do
    answer[#answer + 1] = part
  end
end
return { answer, rest }
