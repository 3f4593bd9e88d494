package rights_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// auditPolicy records who did what, without contents.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// request is a line of the API server's audit log, as far as it matters here.
type request struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus *struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	RequestURI string `json:"requestURI"`
}

// resource is what the request is about, as RBAC names it.
func (r request) resource() string {
	if r.ObjectRef.Subresource != "" {
		return r.ObjectRef.Resource + "/" + r.ObjectRef.Subresource
	}
	return r.ObjectRef.Resource
}

// verbs are those that the request needed a right for: what server-side apply makes anew takes the right to create, too.
func (r request) verbs() []string {
	if r.Verb == "patch" && r.ResponseStatus != nil && r.ResponseStatus.Code == 201 {
		return []string{"patch", "create"}
	}
	return []string{r.Verb}
}

// lists tells of a watch that begins with all that there is. Older API servers do not know that, and are asked for a list.
func (r request) lists() bool {
	return r.Verb == "watch" && strings.Contains(r.RequestURI, "sendInitialEvents=true")
}

// requestsOf reads the log: what a user asked about objects.
func requestsOf(t *testing.T, user string) []request {
	t.Helper()
	f, err := os.Open(auditLog())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		if r.User.Username == user && r.ObjectRef != nil {
			all = append(all, r)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func auditLog() string { return filepath.Join(directory, "audit.log") }
