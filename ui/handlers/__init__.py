"""What the page does when something is clicked: functions over a workspace that return plain values. No gradio."""
