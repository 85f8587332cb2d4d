"""Why a request goes where it goes, and why a service is not routed: functions of values, and the commands that ask."""
