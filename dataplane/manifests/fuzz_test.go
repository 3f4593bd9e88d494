package manifests

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// FuzzLoad reads any text. It must give objects or printable faults, and objects that were read once must, written out, be read
// again as the same.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds match %s (%v)", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := Read("fuzz.yaml", bytes.NewReader(data))
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 || objects != nil {
				t.Fatalf("got the error %v and the objects %v, want Faults alone", err, objects)
			}
			checkPrintable(t, faults)
			return
		}
		for i := range objects.L7Policies {
			if errs := ValidateL7Policy(&objects.L7Policies[i]); len(errs) > 0 {
				t.Errorf("a policy was read that is not valid: %v", errs)
			}
		}
		written := write(t, objects)
		again, err := Read("again.yaml", bytes.NewReader(written))
		if err != nil {
			t.Fatalf("what was read is refused when it is written out:\n%v\n%s", err, written)
		}
		if diff := cmp.Diff(dump(t, objects), dump(t, again)); diff != "" {
			t.Errorf("what was read differs when it is written out and read again (-first +second):\n%s", diff)
		}
	})
}

// write prints objects as a stream of YAML documents.
func write(t *testing.T, objects *Objects) []byte {
	t.Helper()
	var out bytes.Buffer
	write1(t, &out, objects.Namespaces)
	write1(t, &out, objects.Nodes)
	write1(t, &out, objects.Pods)
	write1(t, &out, objects.Services)
	write1(t, &out, objects.EndpointSlices)
	write1(t, &out, objects.ConfigMaps)
	write1(t, &out, objects.L7Policies)
	write1(t, &out, objects.RuleSets)
	write1(t, &out, objects.ClusterRuleSets)
	write1(t, &out, objects.TrafficInspections)
	return out.Bytes()
}

func write1[T any, P interface {
	*T
	metav1.Object
	runtime.Object
}](t *testing.T, out *bytes.Buffer, list []T) {
	t.Helper()
	for i := range list {
		data, err := yaml.Marshal(P(&list[i]))
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(data)
	}
}
