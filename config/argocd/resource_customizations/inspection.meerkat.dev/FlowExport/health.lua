-- Healthy: every node exports as it is written. Degraded: only a change by a person helps, or a collector takes nothing. Progressing:
-- everything else, which comes right by itself or with other objects.
local hs = { status = "Progressing", message = "Waiting for Meerkat to look at the export" }
if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "Being deleted"
  return hs
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end
local is = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  is[condition.type] = condition
end
if is.Stalled ~= nil and is.Stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = is.Stalled.reason .. ": " .. is.Stalled.message
elseif is.Ready == nil then
  return hs
elseif is.Ready.status == "True" then
  hs.status = "Healthy"
  hs.message = is.Ready.message
  for _, look in ipairs({ "Degraded", "ProtocolNotTracked" }) do
    if is[look] ~= nil and is[look].status == "True" then
      hs.message = hs.message .. " " .. is[look].reason .. ": " .. is[look].message
    end
  end
else
  if is.Degraded ~= nil and is.Degraded.status == "True" then
    hs.status = "Degraded"
  end
  hs.message = is.Ready.reason .. ": " .. is.Ready.message
end
return hs
