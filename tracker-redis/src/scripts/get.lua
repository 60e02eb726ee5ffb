-- The rows of these ids: three lists, values, captured bytes, resolutions, with nothing where nothing is held.
return { many(ENTRIES, ARGV), many(CAPTURED, ARGV), many(RESOLUTIONS, ARGV) }
