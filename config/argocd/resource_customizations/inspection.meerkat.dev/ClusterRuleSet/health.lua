-- Healthy: every node that needs the rule set runs what it makes. Degraded: only a change by a person helps: rules are refused, or a
-- revision was rolled back. Progressing: sources are read, rules are validated, or nodes take them over.
local hs = { status = "Progressing", message = "Waiting for Meerkat to look at the rule set" }
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
  for _, look in ipairs({ "Degraded" }) do
    if is[look] ~= nil and is[look].status == "True" then
      hs.message = hs.message .. " " .. is[look].reason .. ": " .. is[look].message
    end
  end
else
  hs.message = is.Ready.reason .. ": " .. is.Ready.message
end
return hs
