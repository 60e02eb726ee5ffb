-- One page: each match as id, value, captured bytes, resolution; and where to go on, if it is not to its end.
local page = {}
local rest = scan(function(id, value)
  local flags = byte(value, 1)
  page[#page + 1] = id
  page[#page + 1] = value
  page[#page + 1] = has(flags, 4) and call('HGET', CAPTURED, id)
  page[#page + 1] = has(flags, 2) and call('HGET', RESOLUTIONS, id)
  wanted = wanted - 1
  return wanted == 0
end)
return { page, rest }
