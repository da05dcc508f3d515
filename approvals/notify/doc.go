// Package notify tells people and programs what happens to held calls: by signed
// webhooks, in Slack, in Microsoft Teams and by e-mail.
//
// What is to be told lies in the approval store's outbox, written in the same
// transaction as the step that it tells of. A [Notifier] takes notices from there,
// one target after the other, and removes each when it has arrived: at least once,
// in the order of the steps of one hold, across restarts and over replicas.
//
// No message decides anything: links lead to a login. The one exception is a
// button in Slack, which [Slack] takes only with Slack's signature, for people who
// are named in the configuration, and under the rules that hold for everybody.
package notify
