-- Healthy: the node enforces what it should. Degraded: it says that it does not. Progressing: its agent has not reported yet, or
-- leaves the node.
local hs = { status = "Progressing", message = "Waiting for the node's agent to report" }
local is = {}
if obj.status ~= nil then
  for _, condition in ipairs(obj.status.conditions or {}) do
    is[condition.type] = condition
  end
end
if is.Detached ~= nil and is.Detached.status == "True" then
  hs.message = is.Detached.message
elseif is.Ready == nil then
  return hs
elseif is.Ready.status == "True" then
  hs.status = "Healthy"
  hs.message = is.Ready.message
else
  hs.status = "Degraded"
  hs.message = is.Ready.reason .. ": " .. is.Ready.message
end
return hs
