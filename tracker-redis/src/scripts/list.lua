-- One page: each match as id, value, captured bytes, resolution, and so what is not whole; and where to go on, if it did not
-- come to the end.
local page = {}
local rest = scan(function(id, value)
  local flags = byte(value, 1)
  page[#page + 1] = id
  page[#page + 1] = value
  page[#page + 1] = has(flags, 4) and call('HGET', CAPTURED, id)
  page[#page + 1] = has(flags, 2) and call('HGET', RESOLUTIONS, id)
  wanted = wanted - 1
  return wanted == 0
end, function(id, value)
  for _, part in ipairs({ id, value, false, false }) do page[#page + 1] = part end
end)
return { page, rest }
