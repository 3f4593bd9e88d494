package conflist

// OnStep has the Installer tell its steps.
func (i *Installer) OnStep(step func(name string)) { i.step = step }

// Insert, Extract and the names of files, for tests.
var (
	Insert  = insert
	Extract = extract
)
