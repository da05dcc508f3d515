package main

import "github.com/spf13/cobra"

func newAudit() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Look after the audit trail",
	}
	c.AddCommand(newAuditStatus(), newAuditCompleteness(), newAuditErase(), newAuditKeys(), newAuditRequeue(), newAuditMigrate())
	return c
}
