package main

import (
	"sync"
	"time"

	"k8s.io/cli-runtime/pkg/resource"
)

// progressDelay is how long events are only kept: an operation that is over in a moment needs none, and pays for none.
const progressDelay = 250 * time.Millisecond

// The phases of an event.
const (
	phaseRender  = "render"
	phaseApply   = "apply"
	phaseHook    = "hook"
	phaseDelete  = "delete"
	phaseWait    = "wait"
	phaseStorage = "storage"
	phaseLeft    = "left"
)

// progress sends what an operation does, to whoever asked for it.
type progress struct {
	channel *channel
	lock    sync.Mutex
	kept    []progressEvent
	begun   bool
	closed  bool
	timer   *time.Timer
}

func newProgress(channel *channel, wanted bool) *progress {
	made := &progress{channel: channel, closed: !wanted}
	if wanted {
		made.timer = time.AfterFunc(progressDelay, made.begin)
	}
	return made
}

func (p *progress) begin() {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.begun = true
	for _, event := range p.kept {
		p.write(event)
	}
	p.kept = nil
}

// close ends the events: nothing of an operation is sent after its outcome. What was left behind is always told.
func (p *progress) close() {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, event := range p.kept {
		if event.Phase == phaseLeft {
			p.write(event)
		}
	}
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *progress) send(event progressEvent) {
	p.lock.Lock()
	defer p.lock.Unlock()
	switch {
	case p.closed:
	case p.begun:
		p.write(event)
	default:
		p.kept = append(p.kept, event)
	}
}

func (p *progress) write(event progressEvent) {
	if p.closed {
		return
	}
	if err := p.channel.send(map[string]any{"type": "progress", "event": event}); err != nil {
		p.closed = true // the parent has gone; the main loop ends
	}
}

// step sends an event about an operation as a whole.
func (p *progress) step(phase, message string) { p.send(progressEvent{Phase: phase, Message: message}) }

// left sends what was not removed, and why.
func (p *progress) left(info *resource.Info, why string) {
	event := about(phaseLeft, info)
	event.Message = event.ObjectKind + " " + event.ObjectName + ": " + why
	p.send(event)
}

// about returns an event about one object.
func about(phase string, info *resource.Info) progressEvent {
	kind := ""
	if info.Mapping != nil {
		kind = info.Mapping.GroupVersionKind.Kind
	}
	return progressEvent{
		Phase: phase, Message: phase, ObjectKind: kind, ObjectName: info.Name, ObjectNamespace: info.Namespace,
	}
}

// counted returns the event with how many of how many are done.
func (e progressEvent) counted(done, total int) progressEvent {
	e.Done, e.Total = &done, &total
	return e
}
