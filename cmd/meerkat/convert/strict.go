package convert

import (
	"errors"
	"fmt"

	kjson "sigs.k8s.io/json"
)

// strictly reads an object all of whose fields must be known, and tells every one that is not.
func strictly(text []byte, into any) error {
	unknown, err := kjson.UnmarshalStrict(text, into)
	if err != nil {
		return fmt.Errorf("it cannot be read: %w", err)
	}
	if len(unknown) > 0 {
		return fmt.Errorf("not all of it is understood; take these fields away, or convert it by hand: %w", errors.Join(unknown...))
	}
	return nil
}
