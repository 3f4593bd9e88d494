package attach

// OnStep has f told the name of each step that the Attacher is about to do.
func (a *Attacher) OnStep(f func(name string)) { a.step = f }
