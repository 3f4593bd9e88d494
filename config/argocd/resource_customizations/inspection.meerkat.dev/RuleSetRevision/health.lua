-- A RuleSetRevision is what it says as soon as it is there.
return { status = "Healthy", message = "Part " .. (obj.part + 1) .. " of " .. obj.parts .. " of the revision " .. obj.revision }
