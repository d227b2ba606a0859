"""What the page does on each event: functions over an open collection that return plain values. No gradio."""
